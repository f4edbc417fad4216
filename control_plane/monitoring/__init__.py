"""What other systems are given to watch Penstock with: a Grafana dashboard, Prometheus' rules and configuration."""
