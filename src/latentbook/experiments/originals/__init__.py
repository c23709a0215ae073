"""What others published, written plainly, one file a model: the yardsticks of `bench` and the homes of their bugs."""
