"""A broker for MQTT 3.1.1."""
