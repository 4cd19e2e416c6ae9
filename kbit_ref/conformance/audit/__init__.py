"""Find the wrong quantizers that a test accepts: `quantizers`, `run`, `rules_in_use`, `audit_pytest` (for pytest)."""

from kbit_ref.conformance.audit.run import Audit, Tried, audit

__all__ = ["Audit", "Tried", "audit"]
