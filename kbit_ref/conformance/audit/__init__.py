"""Which wrong quantizers a test accepts: `quantizers`, `audit`, `rules_in_use`, `audit_pytest`."""
