"""Which wrong quantizers a test accepts: `quantizers`, `run`, `rules_in_use`, `audit_pytest` (in somebody's pytest)."""

from kbit_ref.conformance.audit.run import Audit, Tried, audit

__all__ = ["Audit", "Tried", "audit"]
