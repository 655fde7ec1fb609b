"""Clouds that are scanned surfaces: local patches, and a mixture whose noise is small across them and large along."""
