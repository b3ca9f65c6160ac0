"""The bilingual world behind the demo's data: tables of facts and sentences, and the code that makes text of them."""
