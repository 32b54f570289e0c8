"""The test project of django-agent-sse: a page that runs builds and shows their logs live."""
