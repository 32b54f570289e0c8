"""The app with the tenants."""
