"""The machine under the sandbox: requirements, cgroups, the link, kernel limits."""
