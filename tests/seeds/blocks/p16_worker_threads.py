app = Daebus(__name__, max_workers=20)  # 20 worker threads
