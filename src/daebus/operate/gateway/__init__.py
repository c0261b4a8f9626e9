"""The HTTP door: chosen actions and channels for programs that speak HTTP."""
