"""The bodies of registration's endpoints: pydantic models, from which the OpenAPI document is made."""
