### enqueue data
enqueue = turbo_queue.enqueue()
enqueue.queue_name = queue_name
enqueue.root_path = root_path
enqueue.max_ready_files = 5
enqueue.max_events_per_file = 1000
enqueue.start()
enqueue.update_enqueue_active_state()
while enqueue.enqueue_active:
    data = """{"data":"add_to_queue"}"""
    enqueue.add(data)
    enqueue.update_enqueue_active_state()
    # update_enqueue_active_state needs to be run at some frequency
    # if the number of ready files exceeds the max, the state will will be set to False
    # this is the mechanism used to address downstream backup in the queue
