"""The headless run: papermill, its kernels, the lock, the terminal."""
