"""`gridtokenx settle`: an operator's decisions and repairs, at the terminal."""
