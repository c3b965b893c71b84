"""What a hospital runs on its own premises: nothing here is run by the exchange.

encryption  make a key, encrypt rows for a model, encrypt again without some subjects
decryption  open a reply, rounded; scores and decisions
plan        what a request will cost, before anything is encrypted
"""
