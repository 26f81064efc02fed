"""`gridtokenx chain`: what is on the chain in readable form, and governance's actions with a dry run."""
