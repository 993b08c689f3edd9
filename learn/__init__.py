"""Distils the twin into surrogates and linear feasibility regions."""
