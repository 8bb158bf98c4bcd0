"""otpost's service: takes jobs from the broker and sends them over WhatsApp."""
