from daebus import broadcast

# Broadcast to a topic channel
broadcast.send("user_events", {
    "type": "user_registered",
    "user_id": "user123",
    "timestamp": time.time()
})
