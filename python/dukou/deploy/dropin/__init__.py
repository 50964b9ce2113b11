"""What other servers' files say, as ours: one file a peer. Read where they are plain, never executed."""
