app.run(service="my_service", debug=True)
