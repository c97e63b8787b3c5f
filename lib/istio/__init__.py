"""Istio: istioctl, the proxies, their access log, and the evaluation of policies."""
