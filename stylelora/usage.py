"""What `python cli.py --help` says."""

USAGE = """usage: python cli.py VERB --config FILE [--section.option VALUE ...]
Style LoRAs for Stable Diffusion: one adapter per art style.
  fit       train; sample and score every epoch     python cli.py fit --config configs/quickstart.yaml
  validate  sample and score a checkpoint           python cli.py validate --config FILE --ckpt_path CHECKPOINT
  predict   make pictures of blended styles         python cli.py predict --config configs/compose/FILE
  test      measure adapters and blends             python cli.py test --config configs/evaluate/FILE
  preprocess  make a raw folder a training set      python cli.py preprocess --source DIR --style NAME
  merge     blend LoRA files into one               python cli.py merge --adapters A B --weights 0.6 0.4 --output C
  interference  compare two LoRA files              python cli.py interference --adapters A B --weights 0.6 0.4
  compare   finished tests, picture by picture      python cli.py compare --runs A B
  study     run what a question needs, print tables python cli.py study --question styles
options: python cli.py fit --help, python cli.py fit --model.help lightning_modules.StyleLoRA; configs/README.md"""
