"""Many clusters at once: an Indexed Job asks each, S3 keeps their bundles, a page gathers what they prove."""
