app = Daebus("my_service", max_workers=20) # Configure with 20 worker threads
