"""The command ``tessera``: every script and family under one name, lists of what is here, and streams by themselves."""
