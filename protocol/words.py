"""The 256 French words in which a fingerprint is read aloud (docs/protocol.md, "Three words").

Things that a child of six can picture; no two differ by one letter only, and none by accents only, so that a word heard
over the telephone is not taken for another. The order is normative: a word's place is the byte that it stands for.
"""

from __future__ import annotations

from typing import Final

_TEXT: Final = """
    abeille abricot agneau aigle alouette ananas ancre ardoise argile artichaut autruche avion bague balançoire
    baleine banane bateau bâton bélier bijou biscuit bobine botte bougie bouquet bracelet branche brebis brique
    brosse brouette buffle buisson cabane caillou camion canard caravane carnet carotte cartable carton cascade
    casque castor cerceau cerf cerise chaise château cheminée chemise chenille cheval chèvre chocolat chouette
    cigale cigogne ciseaux citron citrouille clairière clavier cloche coccinelle cochon colline colombe comète
    compas concombre confiture coquelicot coquillage corbeau couronne crabe cravate crayon crocodile croissant
    cuillère cygne dauphin dentelle désert diamant dindon dinosaure domino dragon drapeau écharpe échelle éclair
    écluse écureuil éléphant enclume éponge escalier escargot étoile éventail falaise fanfare farine faucon
    fauteuil fenêtre feuille ficelle flamme flèche fleur flocon flûte fontaine forêt fougère fourchette fourmi
    fraise framboise fromage fusée galet gant gaufre gazelle genou girafe girouette gomme gorille graine grelot
    grenouille guépard guirlande guitare hamac haricot harpe herbe hérisson hibou hirondelle homard horloge
    igloo image jaguar jardin jonquille journal jument jupe kangourou kayak koala laine lampe lanterne lapin
    lavande lézard libellule licorne lion livre loupe loutre lune lutin maison mandarine marguerite marmotte
    marteau melon menthe miel miroir montagne mosaïque mouette moulin mouton muguet nappe navette navire neige
    nénuphar noisette nuage océan oiseau olive orage orange orchidée ours panda panier papillon parapluie
    pastèque pélican perroquet phare piano pingouin pirate pistache planète poire poisson poney puzzle raisin
    renard requin réveil rhinocéros rivière robot salade sauterelle savon scarabée serpent singe soleil tambour
    tigre toboggan tomate tortue toupie tournesol trésor trompette tulipe vache valise vanille vélo village
    violette violon voilier volcan zèbre
"""

WORDS: Final = tuple(_TEXT.split())
