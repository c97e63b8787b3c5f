"""The machine that runs the sandbox: requirements, cgroups, network link, kernel limits."""
