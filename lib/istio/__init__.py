"""Istio as the runbook uses it: istioctl, the proxies, their access log, and what the policies mean."""
