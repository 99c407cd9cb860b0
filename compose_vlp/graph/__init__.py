"""Values by their types, kinds by their signatures, and the plan of calls: what the checker and the compiler share."""
