"""Params that tests state and none of them looks at."""

IMAGES = {key: "x" for key in ("keycloak_image", "postgres_image", "httpbin_image", "sleep_image")}
REAL = {  # an environment in an account of its own
    "cluster_source": "eks",
    "cluster_name": "demo",
    "public_access_cidrs": ["203.0.113.7/32"],
    "istio_tag": "1",
    **IMAGES,
}
