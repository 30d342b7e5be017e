"""What is computed: pure functions and classes. No Kafka, no clock, no disk path, no settings; time and chance are arguments."""
