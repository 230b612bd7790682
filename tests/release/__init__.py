"""What a release is made of: built twice, compared, listed, installed and tried."""
