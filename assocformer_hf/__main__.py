"""`python -m assocformer_hf VERB`, and `accelerate launch -m assocformer_hf VERB`."""

from assocformer_hf.commands.main import main

main()
