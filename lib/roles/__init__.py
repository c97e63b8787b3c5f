"""Roles: who may do what. A matrix of roles, paths and methods becomes policies, and every cell is proved."""
