"""The proofs of promises that need a harness of their own; `proof.PROMISES` says what is promised."""
