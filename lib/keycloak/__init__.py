"""Keycloak as a service: its admin API, its keys, its OpenID Connect endpoints."""
