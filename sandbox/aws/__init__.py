"""The AWS endpoint: moto's server behind a gate."""
