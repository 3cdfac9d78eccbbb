"""Events over HTTP, from browsers, phones, any other language, Telegraf and InfluxDB clients."""
