"""The commands `gridtokenx backup` and `gridtokenx restore`, thin doors to backups/."""
