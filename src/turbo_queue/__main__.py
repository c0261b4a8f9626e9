"""`python -m turbo_queue` is the command `turbo-queue`."""

from turbo_queue.operate.cli import main

if __name__ == "__main__":
    main()
