"""The queue beside other ways to hand events from process to process."""
