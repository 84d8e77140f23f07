"""klingflow: Terraform for AI film."""

__version__ = "0.1.0"
