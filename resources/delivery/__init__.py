"""Events on their way: webhooks behind a guard, and RabbitMQ."""
