"""The pipeline from Kafka to Kafka, beside other ways to build one."""
