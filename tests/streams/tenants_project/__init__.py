"""A project with django-tenants whose streams read their tenant's rows; run as ``python -m``, see ``test_django_tenants.py``."""
