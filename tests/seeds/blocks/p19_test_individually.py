from daebus import DaebusCaller
caller = DaebusCaller("my_service")
response = caller.send_request("get_status", {})
print(f"Response: {response}")
caller.close()
