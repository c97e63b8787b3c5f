"""What a run would find and make in the account, before anything is made."""
