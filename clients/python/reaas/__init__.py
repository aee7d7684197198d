"""REaaS client SDK."""
