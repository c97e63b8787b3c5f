"""The plan of a run: objects, costs and obstacles in the AWS account. It changes nothing."""
