"""Every balance rebuilt from the chain's history alone, and compared with the accounts."""
