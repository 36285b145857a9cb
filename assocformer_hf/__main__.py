"""`python -m assocformer_hf VERB`, and `accelerate launch -m assocformer_hf VERB`."""

from assocformer_hf.commands.main import main

if __name__ == "__main__":
    main()
