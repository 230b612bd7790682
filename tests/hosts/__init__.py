"""What docs/deploy-hosts.md says: the unit, the container, the compose file, the proxies."""
