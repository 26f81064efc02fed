"""`gridtokenx audit`: run audits, prove trades, verify dossiers and proofs; and `gridtokenx statement`."""
